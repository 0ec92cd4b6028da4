//! Which record does a person get next?

use super::create::place;
use super::stored::{ReviewTask, TaskRow};
use super::{Result, Stop, TaskStore, TaskStoreError};
use crate::curate::{SchemaRef, Strategy};
use crate::jobs::sql::{Statement, Tx, integer};

/// How long a task that was handed out, or a draft, is kept from others.
pub(super) const CLAIM_SECONDS: i64 = 600;
/// The most tasks at once.
const MAX_LIMIT: usize = 50;

/// Who wants which records next.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NextQuery {
    /// The schema, and its version.
    pub schema: SchemaRef,
    /// Who asks.
    pub annotator: String,
    /// Which records come first.
    pub strategy: Strategy,
    /// Where the random order begins, for [`Strategy::Random`]; for each person it begins elsewhere.
    pub seed: u64,
    /// The most: 1 to 50.
    pub limit: usize,
    /// The task that they have just seen: those that follow it come first, then the others.
    pub after: Option<String>,
    /// How many people are to answer each record; `None` for as many as the schema's rule for gold asks for, else one.
    pub wanted_responses: Option<usize>,
}

impl NextQuery {
    /// The one record that the latest model is least sure of.
    pub fn new(schema: SchemaRef, annotator: impl Into<String>) -> Self {
        let strategy = Strategy::Uncertainty;
        Self { schema, annotator: annotator.into(), strategy, seed: 0, limit: 1, after: None, wanted_responses: None }
    }
}

impl TaskStore {
    /// The records that are worth most to be answered next, without those that this person has answered or discarded, those that are
    /// gold, and those that enough people have answered. What somebody was given in the last ten minutes counts as answered for
    /// others, so that two who ask at once get different records; whoever asks again gets the same ones.
    ///
    /// Of records that are worth the same, the one comes first that is first in an order that is random and always the same.
    ///
    /// # Errors
    /// The schema is unknown; [`TaskStoreError::InvalidParameter`] for `annotator` or `limit`.
    pub async fn next(&self, query: &NextQuery, now: i64) -> Result<Vec<ReviewTask>> {
        if !(1..=MAX_LIMIT).contains(&query.limit) {
            let message = format!("it must be from 1 to {MAX_LIMIT}");
            return Err(TaskStoreError::InvalidParameter { param: "limit", message });
        }
        super::annotate::check_annotator(&query.annotator)?;
        let schema = self.schema(&query.schema).await?;
        let rule = schema.schema().gold.auto.as_ref().map_or(1, |rule| rule.min_annotators);
        let wanted = query.wanted_responses.unwrap_or(rule).max(1) as i64;
        let rows = self.transaction(|| self.hand_out(query, wanted, now)).await?;
        self.open_all(rows).await
    }

    async fn hand_out(&self, query: &NextQuery, wanted: i64, now: i64) -> std::result::Result<Vec<TaskRow>, Stop> {
        let mut tx = self.database.begin().await?;
        let stale = "DELETE FROM curation_people WHERE annotator = $1 AND status = 'claimed' AND until <= $2";
        Statement::new(stale).bind(query.annotator.as_str()).bind(now).execute(&mut tx).await?;
        let after = match &query.after {
            Some(id) => place_of(&mut tx, id).await?,
            None => None,
        };
        let mut rows: Vec<TaskRow> = Vec::new();
        for part in query.parts(after) {
            let missing = query.limit - rows.len();
            if missing > 0 {
                let select = query.select(&part, wanted, now);
                let select = select.push(" LIMIT ").push_value(missing).push(self.database.dialect().skip_locked());
                for row in select.rows(&mut tx).await? {
                    let row = TaskRow::read(&row)?;
                    if rows.iter().all(|other| other.id != row.id) {
                        rows.push(row);
                    }
                }
            }
        }
        let mut mine = Vec::new();
        for row in rows {
            // Another may have got it between the look at the people and the lock.
            if query.claim(&mut tx, &row.id, wanted, now).await? {
                mine.push(row);
            }
        }
        tx.commit().await?;
        Ok(mine)
    }
}

/// A part of all tasks, and its order.
enum Part {
    /// From the largest number in a column down: behind a number and a place, or all.
    Ranked(&'static str, Option<(f64, i64)>),
    /// From this place on in the random order.
    From(i64),
    /// Before this place.
    Before(i64),
}

/// Where a task is in the orders.
#[derive(Clone, Copy)]
struct TaskPlace {
    uncertainty: f64,
    disagreement: f64,
    lot: i64,
}

async fn place_of(tx: &mut Tx, id: &str) -> std::result::Result<Option<TaskPlace>, Stop> {
    let select = "SELECT uncertainty, disagreement, lot FROM curation_tasks WHERE id = $1";
    let Some(row) = Statement::new(select).bind(id).row(tx).await? else { return Ok(None) };
    let real = |column: &str| sqlx::Row::try_get::<f64, _>(&row, column);
    Ok(Some(TaskPlace {
        uncertainty: real("uncertainty")?,
        disagreement: real("disagreement")?,
        lot: integer(&row, "lot")?,
    }))
}

/// People other than `$1` who have answered, or who were given it and may still answer at the time `$2`.
const OTHERS: &str = "SELECT COUNT(*) AS n FROM curation_people p WHERE p.annotator <> $1 AND (p.status = 'submitted' OR \
                      (p.status IN ('claimed', 'draft') AND p.until > $2)) AND p.task_id = ";

impl NextQuery {
    /// In which order tasks are looked through.
    fn parts(&self, after: Option<TaskPlace>) -> Vec<Part> {
        let ranked = |column, number: fn(TaskPlace) -> f64| {
            let behind = after.map(|at| Part::Ranked(column, Some((number(at), at.lot))));
            behind.into_iter().chain([Part::Ranked(column, None)]).collect()
        };
        match self.strategy {
            Strategy::Uncertainty => ranked("uncertainty", |at| at.uncertainty),
            Strategy::Disagreement => ranked("disagreement", |at| at.disagreement),
            Strategy::Random => {
                let start = after.map_or_else(|| place(&self.annotator, self.seed), |after| after.lot + 1);
                vec![Part::From(start), Part::Before(start)]
            }
        }
    }

    fn select(&self, part: &Part, wanted: i64, now: i64) -> Statement {
        let done = " AND NOT EXISTS (SELECT 1 FROM curation_people p WHERE p.task_id = t.id AND p.annotator = $1 AND p.status \
                    IN ('submitted', 'discarded')) AND (";
        let select = Statement::new(TaskRow::SELECT)
            .bind(self.annotator.as_str())
            .bind(now)
            .push("WHERE t.schema_id = ")
            .push_value(self.schema.id.as_str())
            .push(" AND t.schema_version = ")
            .push_value(self.schema.version.to_string())
            .push(" AND t.is_gold = 0 AND t.num_submitted < ")
            .push_value(wanted)
            .push(done)
            .push(OTHERS)
            .push("t.id) < ")
            .push_value(wanted);
        let behind = |select: Statement, column: &str, value: f64, lot: i64| {
            let select =
                select.push(" AND (t.").push(column).push(" < ").push_value(value).push(" OR (t.").push(column);
            select.push(" = ").push_value(value).push(" AND t.lot > ").push_value(lot).push("))")
        };
        match part {
            Part::Ranked(column, at) => {
                let select = match at {
                    Some((number, lot)) => behind(select, column, *number, *lot),
                    None => select,
                };
                select.push(" ORDER BY t.").push(column).push(" DESC, t.lot")
            }
            Part::From(start) => select.push(" AND t.lot >= ").push_value(*start).push(" ORDER BY t.lot"),
            Part::Before(start) => select.push(" AND t.lot < ").push_value(*start).push(" ORDER BY t.lot"),
        }
    }

    /// Keeps a task from others for a while; false if enough of them have it.
    async fn claim(&self, tx: &mut Tx, task: &str, wanted: i64, now: i64) -> std::result::Result<bool, Stop> {
        let others = Statement::new(OTHERS).bind(self.annotator.as_str()).bind(now).push_value(task).row(tx).await?;
        let num_others = others.map_or(Ok(0), |row| integer(&row, "n"))?;
        if num_others >= wanted {
            return Ok(false);
        }
        let claim = "INSERT INTO curation_people (task_id, annotator, status, until, external_id) \
                     VALUES ($1, $2, 'claimed', $3, '') ON CONFLICT (task_id, annotator) DO UPDATE SET until = excluded.until";
        let claim = Statement::new(claim).bind(task).bind(self.annotator.as_str()).bind(now + CLAIM_SECONDS);
        claim.execute(tx).await?;
        Ok(true)
    }
}
