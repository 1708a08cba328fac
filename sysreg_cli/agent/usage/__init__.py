"""Where the space of the registry's storage went (docs/contracts.rst, "Usage"), and what an image is.

api         the HTTP calls
details     reads the storage, and says what one image is
report      reads the storage, and says what the caller may know of it
growth      how fast the file system fills
accounting  which blobs an image reaches, and which of them only it reaches (pure)
"""
