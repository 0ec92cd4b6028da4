//! Messages to receivers.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::{Database, Fault, Statement, integer, text};
use crate::jobs::{Delivery, DeliveryState, JobError, WebhookEvent};

const COLUMNS: &str = "id, batch_id, event, body, state, attempts, next_attempt_at, last_error, created_at";
/// Messages that are due.
pub(super) const DUE: &str = "SELECT seq, next_attempt_at FROM job_deliveries WHERE state = 'pending' AND next_attempt_at <= $1 \
                  ORDER BY next_attempt_at, seq LIMIT $2";
const STATES: [DeliveryState; 3] = [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Dead];

pub(super) async fn add(database: &Database, delivery: &Delivery) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    insert(&mut tx, delivery).await?;
    tx.commit().await
}

/// Adds a message within a transaction, unless there is one of its id.
pub(super) async fn insert(connection: &mut AnyConnection, delivery: &Delivery) -> Result<(), Fault> {
    let added = Statement::new("INSERT INTO job_deliveries (")
        .push(COLUMNS)
        .push(") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING")
        .bind(&delivery.id)
        .bind(&delivery.batch_id)
        .bind(delivery.event.as_str())
        .bind(&delivery.body)
        .bind(name_of(delivery.state))
        .bind(delivery.attempts)
        .bind(delivery.next_attempt_at)
        .bind(delivery.last_error.as_deref())
        .bind(delivery.created_at)
        .execute(connection)
        .await;
    match added.map_err(Fault::Sql) {
        Err(fault) if fault.is_orphan() => {
            Err(JobError::NotFound { what: "batch", id: delivery.batch_id.clone() }.into())
        }
        added => added.map(|_| ()),
    }
}

pub(super) async fn take_due(database: &Database, now: i64, ttl: i64, limit: usize) -> Result<Vec<Delivery>, Fault> {
    let mut tx = database.begin().await?;
    let due = Statement::new(DUE).push(database.dialect().skip_locked()).bind(now).bind(limit).rows(&mut tx).await?;
    let mut taken = Vec::with_capacity(due.len());
    for row in due {
        let update = "UPDATE job_deliveries SET next_attempt_at = $1 WHERE seq = $2 RETURNING ";
        let update = Statement::new(update).push(COLUMNS).bind(now.saturating_add(ttl)).bind(integer(&row, "seq")?);
        taken.extend(update.row(&mut tx).await?.as_ref().map(delivery).transpose()?);
    }
    tx.commit().await?;
    Ok(taken)
}

pub(super) async fn update(database: &Database, delivery: &Delivery) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    let update =
        "UPDATE job_deliveries SET state = $1, attempts = $2, next_attempt_at = $3, last_error = $4 WHERE id = $5";
    let changed = Statement::new(update)
        .bind(name_of(delivery.state))
        .bind(delivery.attempts)
        .bind(delivery.next_attempt_at)
        .bind(delivery.last_error.as_deref())
        .bind(&delivery.id)
        .execute(&mut tx)
        .await?;
    if changed == 0 {
        return Err(JobError::NotFound { what: "delivery", id: delivery.id.clone() }.into());
    }
    tx.commit().await
}

pub(super) async fn get(database: &Database, id: &str) -> Result<Option<Delivery>, Fault> {
    let mut connection = database.read().await?;
    let select = Statement::new("SELECT ").push(COLUMNS).push(" FROM job_deliveries WHERE id = $1").bind(id);
    Ok(select.row(&mut connection).await?.as_ref().map(delivery).transpose()?)
}

pub(super) async fn list(
    database: &Database,
    owner: Option<&str>,
    state: DeliveryState,
    limit: usize,
) -> Result<Vec<Delivery>, Fault> {
    let mut connection = database.read().await?;
    let select = Statement::new("SELECT ").push(COLUMNS).push(" FROM job_deliveries WHERE state = ");
    let mut select = select.push_value(name_of(state));
    if let Some(owner) = owner {
        let is_theirs = " AND EXISTS (SELECT 1 FROM job_batches b WHERE b.id = job_deliveries.batch_id AND b.owner = ";
        select = select.push(is_theirs).push_value(owner).push(")");
    }
    let rows = select.push(" ORDER BY seq DESC LIMIT ").push_value(limit).rows(&mut connection).await?;
    Ok(rows.iter().map(delivery).collect::<Result<_, _>>()?)
}

pub(super) async fn delete(database: &Database, id: &str) -> Result<bool, Fault> {
    let mut tx = database.begin().await?;
    let deleted = Statement::new("DELETE FROM job_deliveries WHERE id = $1").bind(id).execute(&mut tx).await?;
    tx.commit().await?;
    Ok(deleted == 1)
}

fn delivery(row: &AnyRow) -> Result<Delivery, sqlx::Error> {
    let (event, state) = (text(row, "event")?, text(row, "state")?);
    let known_event = WebhookEvent::ALL.into_iter().find(|known| known.as_str() == event);
    let known_state = STATES.into_iter().find(|known| name_of(*known) == state);
    Ok(Delivery {
        id: text(row, "id")?,
        batch_id: text(row, "batch_id")?,
        event: known_event.ok_or_else(|| sqlx::Error::Decode(event.into()))?,
        body: text(row, "body")?,
        state: known_state.ok_or_else(|| sqlx::Error::Decode(state.into()))?,
        attempts: integer(row, "attempts")?,
        next_attempt_at: integer(row, "next_attempt_at")?,
        last_error: row.try_get("last_error")?,
        created_at: integer(row, "created_at")?,
    })
}

/// How a state is stored.
fn name_of(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Dead => "dead",
    }
}
