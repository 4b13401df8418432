"""Is the world model surprised by the impossible twin?"""
