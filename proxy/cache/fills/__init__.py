"""Fills: one read of a media at its upstream, for any number of readers."""
