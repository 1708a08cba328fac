"""Alarms about certificates that expire soon, or have expired (docs/contracts.rst, "Alarms").

expiry    the certificates that are installed, and when they expire
alarm     which alarms they call for
delivery  passes each change of an alarm to the command of the settings
reminder  the daily warning in the journal
"""
