"""Reads the storage of the registry's ``filesystem`` driver.

layout           the paths of the storage
root             opens the storage for one call of the API
recent           reads the images, and remembers their manifests for some minutes
listings         lists repositories and tags as the registry does
snapshot         reads the storage
repositories     reads single repositories
blobs            reads which blobs are stored
links            reads the links in one repository
readers          shares a large reading between two processes
second_reader    the second process
repository       what a snapshot says of one repository, and of one blob
manifest         what a manifest refers to (pure)
deleted          which tags were deleted, and whether they can be restored
mark             what tags need, and what the registry's collector keeps
reach            who needs a manifest or blob: tags and referrers
files            reads and removes files and directories
tags             reads and removes tags
removal          removes tags and puts them back, and loses no push of them
damage           what is wrong in the storage, and the remedy (pure)
"""
