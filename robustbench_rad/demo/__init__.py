"""The embedded demo: procedural chest phantoms and two small classifiers, one with a planted shortcut."""
