"""What ``init`` makes for somebody who starts: a source database with records, and a configuration.

``sample`` invents the records, ``records`` imports those of real audit logs; ``fields`` knows what the
fields of such logs mean, ``folder`` writes the files. None of them creates a ledger, prints, or is
needed after ``init``.
"""
