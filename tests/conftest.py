"""What every test stands on."""

import signal

# A shell that starts us in its background leaves SIGINT ignored, and every process of ours would inherit
# that: no Ctrl-C would ever reach one.
signal.signal(signal.SIGINT, signal.default_int_handler)
