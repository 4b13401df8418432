"""Measurements. Each script prints its machine, its table and, last, one line of JSON."""
