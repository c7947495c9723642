-- Usage that was written before its payer existed is unsettled from the moment the payer does, and
-- may lie below `settled_everywhere_below`: a sweep looks at payers, so none saw it. Hence the
-- low-water mark goes back to the lowest such row. Whoever sees the payer sees that too: they commit
-- together.
--
-- The races, for a row r of position p, whose payer transaction T creates:
--   r open, or written later   p is no less than any note: a sweep notes what had ended
--   T ended before its page    the sweep sees the payer: it settles r, or stays below it
--   T later, or open then      the sweep misses the payer. It notes what had ended before a reading
--                              that nothing in progress outlived until its pages
--                              (src/counter/sweep.ts). T did, so T got its id after the reading, and
--                              its trigger sees r, if r had ended by then. Where the trigger comes
--     before the note          the settings are locked, or their `updated_at` is another, even
--                              where p is above the mark: the sweep notes nothing
--     after it                 the update starts from the newest mark
-- Rows of T itself, and of younger transactions, are above all that a sweep which misses T may note.
-- A trigger must see what was committed before it, so T must be READ COMMITTED.
--
-- A statement pays two descents of an index per new payer. Only who creates payers of earlier
-- usage updates the settings, and waits for another who does until that one has ended.
CREATE OR REPLACE FUNCTION microdollar_note_new_payers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off AS $$
declare
  v_lowest bigint;
begin
  if tg_table_name = 'organizations' then
    select min(m.position) into v_lowest
    from new_payers as u
    cross join lateral (
      (select m.position
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
          else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
      order by m.position
      limit 1)
      union all
      (select m.position
      from exa_usage_log as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
          else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
      order by m.position
      limit 1)
    ) as m;
  else
    select min(m.position) into v_lowest
    from new_payers as u
    cross join lateral (
      (select m.position
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
          else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
        and m.organization_id is null
        and m.position is not null
      order by m.position
      limit 1)
      union all
      (select m.position
      from exa_usage_log as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
          else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
        and m.organization_id is null
        and m.position is not null
      order by m.position
      limit 1)
    ) as m;
  end if;
  if v_lowest is not null then
    update ledger_settings as s
    set settled_everywhere_below = least(s.settled_everywhere_below, v_lowest),
      updated_at = clock_timestamp()
    where s.id = 1
      and v_lowest < greatest(s.settled_everywhere_below, (s.generation << 44) + txid_current());
  end if;
  return null;
end
$$;
--> statement-breakpoint
CREATE TRIGGER note_new_payers AFTER INSERT ON kilocode_users
REFERENCING NEW TABLE AS new_payers FOR EACH STATEMENT
EXECUTE FUNCTION microdollar_note_new_payers();
--> statement-breakpoint
CREATE TRIGGER note_new_payers AFTER INSERT ON organizations
REFERENCING NEW TABLE AS new_payers FOR EACH STATEMENT
EXECUTE FUNCTION microdollar_note_new_payers();
