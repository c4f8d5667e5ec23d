# searchspace
