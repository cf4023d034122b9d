from ct3d_edge.report.deidentify import deidentify_names


def test_no_folder_is_shown_even_where_file_names_are_equal() -> None:
    scans = ["/data1/DOE^JOHN/x.nii", "/data2/ROE^JANE/x.nii", "y.nii"]
    assert deidentify_names(scans) == ["x.nii", "x.nii (2)", "y.nii"]
