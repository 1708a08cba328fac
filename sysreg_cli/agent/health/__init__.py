"""What `system registry-health-query` asks of the agent.

trial  pushes, pulls and deletes a test image, and leaves nothing
api    the calls
"""
