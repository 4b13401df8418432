"""The embedded generator behind diffusers' interface: does guidance lose anything on that way?"""
