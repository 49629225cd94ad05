/* sql/pgstock--1.0.sql */

\echo Use "CREATE EXTENSION pgstock" to load this file. \quit

/*
 * CREATE EXTENSION runs this script as a superuser with the target schema in
 * search_path.  The owner of that schema could have created functions or
 * operators there that match better than the system's.  So search_path is
 * reduced to pg_catalog, and every other object is named with its schema.
 */
SET LOCAL search_path = pg_catalog, pg_temp;

/*
 * Tables are in pgstock_internal, which only its owner may write to; the
 * public functions and views are in @extschema@.  CREATE SCHEMA fails if the
 * schema exists, so no object in it belongs to another user.
 *
 * Text columns that are keys have COLLATE "C": the C code compares keys byte
 * by byte and locks them in that order, and the indexes must agree.
 */
CREATE SCHEMA pgstock_internal;
COMMENT ON SCHEMA pgstock_internal IS
	'tables of pgstock and functions for its relay';

/* Rights that the owner's default privileges grant on a table made later. */
CREATE FUNCTION pgstock_internal.revoke_default_grants(made regclass)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	grantee	oid;
BEGIN
	FOR grantee IN
		SELECT DISTINCT a.grantee
		  FROM pg_class c, aclexplode(c.relacl) a
		 WHERE c.oid = made AND a.grantee <> c.relowner
	LOOP
		EXECUTE format('REVOKE ALL ON %s FROM %s', made,
					   CASE grantee WHEN 0 THEN 'PUBLIC'
					   ELSE grantee::regrole::text END);
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_internal.revoke_default_grants IS
	'revokes the rights that roles other than the owner have on a table';
