-- Adds what support asked for.
alter table orders add column note text;

-- One statement, bounded: the approver reads exactly this.
update orders set note = 'migrated' where id <= 10;
