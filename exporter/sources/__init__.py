"""One module, or one family of modules, per kind of database. None of them may know another."""
