"""What `system registry-health-query` asks of the agent.

trial  pushes, pulls and deletes a test image, and leaves nothing
blobs  reads every blob, and compares it with its digest
api    the calls
"""
