"""Nanoseconds per decision of each policy and per stage of a request's path, to locate what a whole run only notices.

    ratio = ns(case) / ns(reference), both measured in the same repetition

The reference is a fixed piece of plain Python, so that the ratio depends on the interpreter but hardly on the machine.
"""
