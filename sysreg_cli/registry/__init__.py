"""A client of the registry's HTTP API v2, for the command and for the agent.

client.py         RegistryClient: catalog, tags, manifests; raises the errors of sysreg_cli.errors
repository.py     Repository: what the tags of one repository stand for, and which manifests they need
deletion.py       delete_images: delete tags and digests, and nothing that another tag needs
targets.py        what each argument of a delete means: its tags and manifests
group.py          the steps of a delete, for all targets of one repository together
contents.py       what is in an image: platforms, layers, labels
manifests.py      RemoteManifest, and the placeholder manifest that deletes a tag
authorization.py  bearer tokens from the token server that the registry names
challenge.py      the registry's 401 challenge
pages.py          the next page of a listing
credentials.py    the caller's credentials
transport.py      HTTPS: connections, retries, errors
trust.py          which certificates a registry may present
metrics.py        which requests the registry is working on
"""
