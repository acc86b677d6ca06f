"""How settings are written: what the configuration and the settings of each driver are made of.

``strict`` is what every model of settings is, ``values`` the notation of time spans, sizes, times and
names, ``zones`` time zones by name, ``secret`` what is never shown, ``surroundings`` what relative paths
and references are relative to, ``yaml_lines`` a YAML file as plain values that know their lines, and
``wording`` how a mistake in one is put. It must not know a setting, or connect to anything.
"""
