"""Listening, connections, signals and drain: the one place that knows aiohttp's internals."""
