-- Where the shards lie: every range keyspace is cut, so that all groups hold some of it.

CALL pgherd.split('users', 'H')

CALL pgherd.split('users', 'P')

CALL pgherd.split('readings', 'n')

CALL pgherd.split('shop.carts', 'g')

CALL pgherd.split('shop.carts', 'n')
