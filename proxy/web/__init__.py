"""The handlers: thin, each takes a request apart, asks the layers below, and writes the answer."""
