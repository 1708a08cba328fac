"""``sysreg-deploy``: what a controller consists of, compared with the machine, applied and removed.

main.py          the command's options, modes, messages and exit status
changes.py       plan the changes of a deployment, apply them, undo a deployment
deployment.py    all resources of a controller, in order
host_facts.py    what the resources depend on, and what is refused
resource.py      the base class of resources; changes
record.py        what sysreg-deploy wrote, made and replaced on this machine
machine.py       programs of the system; mode, owner and group of files

The resources:

file.py          files, links, and lines in files of other programs
system_files.py  accounts, directories and lock files that systemd's programs make
storage.py       the rights of the registry's user to its storage
token_keys.py    the token-signing pair, and the registry's trust in it
certificate.py   the registry's certificate
client_trust.py  the trust of docker and containerd in it
worker.py        what a worker consists of
join.py          make this machine a worker with a join file
daemons.py       the code and settings that a daemon was started with
units.py         systemd units
etcd.py          etcd on this controller, if the section [cluster] says so

And what they use:

templates.py     the files of etc/ with this controller's values
configs.py       the configurations of docker-registry and containerd
restart.py       restart a service and refuse no client
rollover.py      replace the token-signing key
verify.py        the check of the live services
"""
