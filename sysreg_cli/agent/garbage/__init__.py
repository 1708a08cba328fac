"""Garbage collection of the registry's storage (docs/contracts.rst, "Garbage collection").

api              the HTTP calls
service          runs one collection at a time, and recovers from one that a killed agent left
records          what later agents need to know, on disk
collection       one collection, from the scan to the release of the write lock
recorder         its phase, progress and result; ends what is cancelled or late
writers          who may write to the registry; holds the write lock
uploads          names the uploads that the registry receives
drain            when the write lock is held and released (pure)
planning         what to delete and what to pin
sparing          which deleted tags are spared, and which are lost
sweep            carries out the plan under the write lock
edits            changes the storage
collector        runs ``docker-registry garbage-collect``
"""
