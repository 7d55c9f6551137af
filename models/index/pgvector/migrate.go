package pgvector

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
)

// migrations are SQL files whose names begin with the version of the schema that they make: 0001_…, 0002_… .
//
//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the version that this program reads and writes: that of the last migration.
const schemaVersion = 1

// migrationLock keeps programs from migrating at the same time.
const migrationLock = 7024110011

// readVersion returns the version of the database's schema. 0: there is none.
func readVersion(ctx context.Context, q querier) (int, error) {
	var exists bool
	// Not to_regclass: it is an error if the user may not look into the schema.
	err := q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = 'schema_version')`, schema).Scan(&exists)
	if err != nil || !exists {
		return 0, err
	}
	var version int
	if err := q.QueryRow(ctx, `SELECT version FROM rag_retrieval.schema_version`).Scan(&version); err != nil {
		return 0, err
	}
	if version > schemaVersion {
		return 0, fmt.Errorf("its schema %s has version %d, this program knows versions to %d: use a newer program", schema, version, schemaVersion)
	}
	return version, nil
}

// migrate makes the extension and the schema, or brings the schema up to date, all in one transaction.
func (s *Store) migrate(ctx context.Context) error {
	version, err := readVersion(ctx, s.pool)
	if err != nil {
		return err
	}
	// New connections look for the extension, which may not have been there when the old ones were made.
	defer s.pool.Reset()
	if version == schemaVersion {
		return checkExtension(ctx, s.pool)
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return err
		}
		if err := makeExtension(ctx, tx); err != nil {
			return err
		}
		if version, err = readVersion(ctx, tx); err != nil { // another program may have been first
			return err
		}
		return runMigrations(ctx, tx, version)
	})
}

func makeExtension(ctx context.Context, tx pgx.Tx) error {
	var installed, available bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector'),
		EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')`).Scan(&installed, &available)
	if err != nil {
		return err
	}
	if !installed {
		if !available {
			return errNoExtension
		}
		if _, err := tx.Exec(ctx, `CREATE EXTENSION vector SCHEMA public`); err != nil {
			return err
		}
	}
	return checkExtension(ctx, tx)
}

// runMigrations runs the migrations after a version.
func runMigrations(ctx context.Context, tx pgx.Tx, version int) error {
	if version == 0 {
		// CREATE SCHEMA IF NOT EXISTS asks for the right to create even if the schema exists.
		var exists bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			if _, err := tx.Exec(ctx, `CREATE SCHEMA `+schema); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `CREATE TABLE rag_retrieval.schema_version (version integer NOT NULL);
			INSERT INTO rag_retrieval.schema_version VALUES (0)`); err != nil {
			return err
		}
	}
	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	for i, name := range files[version:] {
		sql, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, string(sql)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := tx.Exec(ctx, `UPDATE rag_retrieval.schema_version SET version = $1`, version+i+1); err != nil {
			return err
		}
	}
	return nil
}
