"""Reports, one file per format; every one is a pure function of an AuditResult."""
