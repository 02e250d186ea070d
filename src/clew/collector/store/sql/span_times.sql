SELECT minIf(timestamp, timestamp > 0) AS oldest, max(timestamp) AS newest FROM spans
