-- Advisory lock of a counter key or lookup value. The shared lock table is finite, so there are 256
-- buckets, 16 for each of 16 classes of periods: whoever inserts many rows holds at most those. Two
-- keys of one bucket make a writer leave a row unsettled for a moment, nothing else.
CREATE OR REPLACE FUNCTION microdollar_key_bucket(p_period date, p_key text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  select ((case when isfinite(p_period) then p_period - date '2000-01-01' else 0 end & 15) * 16
    + (hashtextextended(p_key, 0) & 15))::integer
$$;
