"""A client of the registry's HTTP API v2, for the command and for the agent.

client.py         RegistryClient: catalog, tags, manifests; raises the errors of sysreg_cli.errors
repository.py     Repository: what the tags of one repository stand for, and which manifests they need
deletion.py       delete_image: delete one tag or digest, and nothing that another tag needs
manifests.py      RemoteManifest, and the placeholder manifest that deletes a tag
authorization.py  bearer tokens from the token server that the registry names
challenge.py      the registry's 401 challenge
pages.py          the next page of a listing
credentials.py    the caller's credentials
transport.py      HTTPS: connections, retries, errors
trust.py          which certificates a registry may present
metrics.py        which requests the registry is working on
"""
