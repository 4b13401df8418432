"""Does what the world model knows hold in scenes that another physics engine made?"""
