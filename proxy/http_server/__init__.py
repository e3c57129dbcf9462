"""The HTTP server: connections, the express lane, files on their way out. It alone knows aiohttp's internals."""
