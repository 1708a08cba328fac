"""Where the space of the registry's storage went (docs/contracts.rst, "Usage").

api         the HTTP call
report      reads the storage, and says what the caller may know of it
accounting  which blobs an image reaches, and which of them only it reaches (pure)
"""
