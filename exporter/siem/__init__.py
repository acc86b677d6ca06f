"""What reads the deliveries: the SIEMs that there are, what each can read, and how each is set up.

``consumers`` is the table; ``delivery`` is what is known of an export, ``judging`` compares the two, and
``packs`` writes the consumer's own configuration, with a module for each kind of consumer and of cloud.
Pure: texts are made of settings. It must not connect to anything, reveal a secret, or read a file.
"""
