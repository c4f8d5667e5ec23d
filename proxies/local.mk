# proxies
