-- Custom: drizzle-kit expresses structure, this is data. Where the ledger is installed into a
-- database without usage, every day is right by construction, and reads start in `rollup`.
update ledger_settings
set installed_empty = true
where read_mode = 'rollup'
  and not exists (select from microdollar_usage);
