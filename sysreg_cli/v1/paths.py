"""The paths of the agent's v1 API."""

REGISTRY_IMAGE = "/v1/registry_image"
GARBAGE_COLLECT = "/v1/registry_image/garbage_collect"
USAGE = "/v1/registry_image/usage"
CERTIFICATE = "/v1/certificate"
CERTIFICATE_INSTALL = "/v1/certificate/certificate_install"
#: a path of its own: an agent that does not know dry runs must not install
CERTIFICATE_PREVIEW = "/v1/certificate/certificate_preview"
CERTIFICATE_ROLLBACK = "/v1/certificate/certificate_rollback"
CERTIFICATE_REQUEST = "/v1/certificate/certificate_request"
CERTIFICATE_HISTORY = "/v1/certificate/certificate_history"
OPENAPI = "/v1/openapi.json"
HEALTH = "/health"
