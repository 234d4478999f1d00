"""What a producer can ask, each call as an exchange: input checked, what is said to Redis, the answer or
an error in words. `balancer.client` drives them blocking, `balancer.aio` with asyncio.
"""
