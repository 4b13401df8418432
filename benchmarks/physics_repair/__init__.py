"""Does guidance or choice repair physics?"""
