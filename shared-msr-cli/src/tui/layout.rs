//! What is where on the screen.

use ratatui::layout::Rect;

/// Fewer columns than that are too few.
pub const LEAST_COLUMNS: u16 = 40;
/// Fewer rows than that are too few.
pub const LEAST_ROWS: u16 = 12;
/// Columns of a CPU's cell where there is room for its rate.
pub const ROOMY_CELL: usize = 16;
/// Columns before a row of narrow cells: its first CPU.
pub const CPU_LABEL: usize = 5;

/// The parts of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The views, and what is special now.
    pub header: Rect,
    /// The view.
    pub body: Rect,
    /// What was done, or what can be done.
    pub status: Rect,
    /// How it is measured.
    pub footer: Rect,
}

/// Divides the screen.
pub fn parts(area: Rect) -> Parts {
    let line = |y: u16| Rect { y: area.y + y.min(area.height.saturating_sub(1)), height: area.height.min(1), ..area };
    let footer = area.height.saturating_sub(1);
    Parts {
        header: line(0),
        body: Rect { y: area.y + area.height.min(1), height: area.height.saturating_sub(3), ..area },
        status: line(footer.saturating_sub(1)),
        footer: line(footer),
    }
}

/// Whether there is enough room.
pub const fn fits((columns, rows): (u16, u16)) -> bool {
    columns >= LEAST_COLUMNS && rows >= LEAST_ROWS
}

/// How CPUs are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells {
    /// Whether each cell has its rate beside it.
    pub roomy: bool,
    /// Cells in a row.
    pub per_row: usize,
    /// Rows of cells.
    pub rows: usize,
    /// Rows for what is said about the selected CPU.
    pub detail: usize,
}

/// Lays out so many CPUs in a body of this size; narrow cells where there are too many.
pub fn cells(body: Rect, cpus: usize, slots: usize) -> Cells {
    let (width, height) = (usize::from(body.width), usize::from(body.height));
    let detail = (slots.max(1) + 4).min(height / 2);
    // A line above for the scale, and an empty one below.
    let room = height.saturating_sub(detail + 2).max(1);
    let roomy = (width / ROOMY_CELL).max(1);
    if cpus.div_ceil(roomy) <= room {
        return Cells { roomy: true, per_row: roomy, rows: room, detail };
    }
    let narrow = (width.saturating_sub(CPU_LABEL) / 8 * 8).clamp(8, 64);
    Cells { roomy: false, per_row: narrow, rows: room, detail }
}

/// The first of so many rows that is shown, so that the selected one is among them.
pub fn first(selected: usize, rows: usize, room: usize) -> usize {
    selected.saturating_sub(room / 2).min(rows.saturating_sub(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cpus_have_room_and_512_are_narrow_but_all_there() {
        let body = parts(Rect::new(0, 0, 80, 24)).body;
        assert!(cells(body, 2, 4).roomy);
        let many = cells(body, 512, 4);
        assert!(!many.roomy && many.per_row == 64 && many.rows >= 8, "{many:?}");
    }

    #[test]
    fn the_selected_row_is_always_shown() {
        for rows in 0..30 {
            for selected in 0..rows {
                let first = first(selected, rows, 7);
                assert!((first..first + 7).contains(&selected), "{selected} of {rows}");
            }
        }
    }
}
