"""The Media resource under the providers' own paths, so that their libraries work with the gateway.

`resources` reads a path, `media_resource` answers it, and `errors` gives an error the provider's shape.

The bytes of a media are sent by `media.delivery`, and a deletion is carried out by `services.deletion`.
"""
