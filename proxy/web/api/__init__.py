"""Handlers of the Media resource under the providers' own paths."""
