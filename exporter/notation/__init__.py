"""How settings are written: what the configuration and the settings of each driver are made of.

``strict`` is what every model of settings is, ``values`` the notation of time spans, sizes, times and
names, ``zones`` time zones by name, ``secret`` what is never shown, and ``surroundings`` what relative
paths and references are relative to. It must not know a setting, read a file of settings, or connect to
anything.
"""
