"""The collector: takes spans and logs, keeps them in ClickHouse, answers questions about them."""
