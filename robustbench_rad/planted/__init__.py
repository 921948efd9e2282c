"""The auditor audited: models with planted defects, and how often the shortcut audits find them."""
