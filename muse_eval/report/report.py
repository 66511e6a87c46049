Report=report=None
