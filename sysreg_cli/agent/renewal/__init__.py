"""Renewing the registry's certificate without a command (docs/contracts.rst, "Renewal").

renewal     decides and installs: what the source holds, and a self-signed certificate of sysreg's that ends
readings    what a source holds at a moment, and waiting until it has come to rest
directory   a source: files that certbot or a CSI driver keeps
secret      a source: a secret of Kubernetes that cert-manager keeps
kubernetes  the requests to Kubernetes' API: list and watch
kubeconfig  where Kubernetes' API is, and the credentials for it
record      what is kept on disk: what was installed from the source, and why something was not
"""
