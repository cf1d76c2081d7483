"""What each service has been asked, how often it failed, and with which errors.

categories   the category of each failure
cells        the counting
rates        what was counted over a window, and what the figures mean
errors       the latest failures as records
figures      the figures of the fleet, or of this process while it is alone
"""
