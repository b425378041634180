"""tfps: click and recommender models whose sparse features never end."""
