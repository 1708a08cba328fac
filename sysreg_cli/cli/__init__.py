"""The `system` command.

start.py              the first code of the process: what must not wait for an import
delegation.py         run a command of the platform's own `system`
main.py               find the command, run it, turn the outcome into an exit status and a line
commands.py           the table of the commands
basics.py             help, bash-completion
images.py             registry-image-list, registry-image-tags, registry-image-delete
image_show.py         registry-image-show
garbage.py            registry-garbage-collect
collection_watch.py   wait for the end of a collection, with a progress bar
collection_report.py  what is shown of a collection
prune.py              registry-image-prune
restore.py            registry-image-restore, registry-image-list --deleted
usage.py              registry-usage
health.py             registry-health-query
certificates.py       certificate-install, certificate-list, certificate-show
certificate_undo.py   certificate-rollback, certificate-uninstall, ca-certificate-uninstall
csr.py                certificate-request
hosts.py              registry-host-list, registry-host-show, registry-host-add, registry-host-delete
hosts_progress.py     how far the hosts of a cluster are, on a terminal
certificate_file.py   the operator's file, which holds a private key: read and remove it
global_options.py     the table of the options with a text value
options.py            how a command is declared, and the click options of every command
invocation.py         what options and environment of one run say
access.py             the registry's client for an invocation
agent_client.py       the calls of the agent's API
agent_connection.py   the connection to the agent
keystone.py           a Keystone token for a call to the agent
output.py             table, json, yaml, value, csv
hints.py              hints for people on a terminal
manual.py             what help says beyond click's own
completion_cache.py   image names and tags for the bash completion
"""
