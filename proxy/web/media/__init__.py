"""Handlers of signed links: what a link grants, and how a media is sent."""
