"""What both daemons share: how they start, listen, serve and stop.

Each daemon's ``main`` uses these modules:

    program    options, log, settings, and the exit status of a console script
    server     uvicorn's configuration; serving until a signal
    listeners  TCP and unix sockets that listen
    accepting  accepts connections: so many of each client, and in total
    buckets    what each client may still do
    fair_threads  threads for calls that block, which clients share fairly
    limits     how long and how large the head of a request may be
    memory     gives memory back to the kernel
    refusal_sums  which refusals get a log line of their own
    tls        a server certificate that can be replaced while the daemon runs
    systemd    sd_notify, watchdog, socket activation
"""
