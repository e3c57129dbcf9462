"""The console: a page that shows recent messages with their media."""
